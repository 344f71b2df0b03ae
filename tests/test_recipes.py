"""The recipes' command lines can be typed as the cards say, and what they feed the networks is right."""

import shlex

import numpy as np
import pytest
import torch
from torch.distributed.run import get_args_parser

from cotlib.assets import data_dir
from cotlib.cli import build_parser
from cotlib.models.checkpoint import read_card
from cotlib.models.tokenizer import PictogramTokenizer
from cotlib.train.generator import SPAN, CodeTable, mentions
from cotlib.world.render import render_batch
from cotlib.world.scenes import CLASSES, COLORS, Scene, Thing

CARDS = sorted(path.parent for path in data_dir().glob("*/card.json"))


@pytest.mark.parametrize("folder", CARDS, ids=lambda path: path.name)
def test_the_command_of_every_card_is_one(folder):
    words = shlex.split(read_card(folder)["command"])
    if (
        words[0] == "torchrun"
    ):  # its own parser sees our options first, and refuses what looks like one of its own
        parsed = get_args_parser().parse_args(words[1:])
        assert parsed.module and parsed.training_script == "cotlib"
        words = ["python", "-m", "cotlib", *parsed.training_script_args]
    assert words[:3] == ["python", "-m", "cotlib"]
    build_parser().parse_args(words[3:])


def test_pasted_codes_are_those_of_the_drawing():
    tokenizer = PictogramTokenizer.from_pretrained(data_dir() / "tokenizer")
    scene = Scene((Thing("dog", "red", 0, 8), Thing("cup", "blue", 40, 40)))
    codes, labels, owners = CodeTable(tokenizer).paste(scene)
    drawn = tokenizer.encode(render_batch([scene], plain=True))[0]
    assert torch.equal(torch.from_numpy(codes), drawn)
    dog = 1 + CLASSES.index("dog") * len(COLORS) + COLORS.index("red")
    assert (labels.reshape(8, 8)[1 : 1 + SPAN, :SPAN] == dog).all() and (labels > 0).sum() == 2 * SPAN**2
    assert ((owners > 0) == (labels > 0)).all() and set(owners) == {0, 1, 2}


def test_mentions_follow_the_words_not_the_clauses():
    owners = np.array([0, 1, 2])
    assert mentions(owners, "two_object").tolist() == [0, 1, 2]
    assert mentions(owners, "position").tolist() == [
        0,
        2,
        1,
    ]  # "a dog left of a cat": the cat is the first clause
    assert mentions(np.array([0, 1, 2, 3]), "counting").tolist() == [0, 1, 1, 1]
