"""The command line: one file a command. `blurlib --help` lists them."""
