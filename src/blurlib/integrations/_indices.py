"""How another library draws a blur: its generator draws a number, which the mix takes as an image's index."""

#: Numbers are drawn below it: whole ones that a float, and so JSON anywhere, holds exactly.
INDICES = 2**53
