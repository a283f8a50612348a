"""What a shell proposes, asked as the scripts of `--show-completion` ask."""

import pytest
from typer.testing import CliRunner

from blurlib._cli import completion, main
from blurlib.notation import parse, parse_list, parse_mix


def proposed(line):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    result = CliRunner().invoke(
        main.app, prog_name="blurlib", env={"_BLURLIB_COMPLETE": "complete_bash", **words}
    )
    return result.output.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("blurlib ev", {"evaluate"}),
        ("blurlib blur a.png --border re", {"reflect", "replicate"}),
        ("blurlib blur a.png --at ", {"384", "image"}),
        ("blurlib blur a.png --blur sh", {"sharp", "shake"}),
        ("blurlib evaluate vgg16 data --blurs sharp,sh", {"sharp,shake"}),
        ("blurlib evaluate vgg16 data --crops ", {"center", "five", "dense"}),
        ("blurlib evaluate vgg16 data --task s", {"segmentation"}),
        ("blurlib evaluate squeezenet1", {"squeezenet1_0", "squeezenet1_1"}),
        ("blurlib evaluate runs/mix/mo", set()),  # the shell's own: files
        ("blurlib finetune vgg16 data --blur sharp+sh", {"sharp+shake"}),
        ("blurlib finetune vgg16 data --amp b", {"bf16"}),
        ("blurlib reproduce table1 --device c", {"cpu", "cuda"}),
        ("blurlib reproduce figure", {f"figure{number}" for number in range(1, 6)}),
    ],
)
def test_values_are_proposed(line, expected):
    assert set(proposed(line)) == expected


def test_what_is_proposed_is_understood():
    for name in completion.blur(""):
        parse(name)
    assert len(parse_list(completion.blurs("sharp,D4a,D")[0])) == 3
    assert len(parse_mix(completion.mix("sharp+D")[0])) == 2
