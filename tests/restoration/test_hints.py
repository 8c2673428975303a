"""Colors of places: their distance along paths, what they color, and the file that names them."""

import heapq
import json

import numpy as np
import pytest
import torch

from restoration.learners import levels
from scorefield.errors import UserError
from scorefield.restoration import ColorHint, read_hints
from scorefield.restoration.hints import _distance, add_hints, check_hints

LUMA = np.array([0.299, 0.587, 0.114])


def dijkstra(luma, start):
    """The module's d by another algorithm."""
    h, w = luma.shape
    done, queue = {}, [(0.0, start)]
    while queue:
        length, (y, x) = heapq.heappop(queue)
        if (y, x) in done:
            continue
        done[y, x] = length
        for b, a in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= b < h and 0 <= a < w and (b, a) not in done:
                heapq.heappush(queue, (length + abs(luma[y, x] - luma[b, a]) + 0.1 / max(h, w), (b, a)))
    return np.array([[done[y, x] for x in range(w)] for y in range(h)])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 12), (20, 15)])
def test_distances_are_those_of_shortest_paths(size):
    luma = torch.rand(size, generator=torch.Generator().manual_seed(1)).double()
    places = [(0, 0), (size[0] - 1, size[1] // 2)]
    for place in places:
        # sums of at most H W terms in float32
        assert np.allclose(
            _distance(luma.float(), place), dijkstra(luma.numpy(), place), rtol=0, atol=size[0] * size[1] * 1e-6
        )


def test_a_hint_colors_its_place_and_keeps_the_luma():
    grey = np.full((16, 16, 1), 128, np.uint8)
    out = add_hints([np.repeat(grey, 3, 2)], grey, [ColorHint(x=5, y=9, color="#c03020")], (16, 16))[0]
    wanted = np.array([0xC0, 0x30, 0x20])
    assert np.abs(out[9, 5] - (wanted - wanted @ LUMA + 128)).max() <= 1  # the chroma of the hint on the luma
    assert np.abs(out @ LUMA - 128).max() <= 0.5 + 1e-3


def test_what_lies_behind_an_edge_keeps_its_color():
    grey = np.full((20, 40, 1), 40, np.uint8)
    grey[:, 20:] = 230
    sample = np.repeat(grey, 3, 2)
    out = add_hints([sample], grey, [ColorHint(x=3, y=3, color="#2040c0")], (20, 40))[0].astype(int)
    chroma = out.max(2) - out.min(2)
    # a ≥ exp(−(0.1 · 37/40/0.4)²) = 0.95 on this side, a ≤ exp(−(0.745/0.4)²) = 0.03 on the other
    assert chroma[:, :20].min() > 20 * chroma[:, 20:].max() > 0


def test_each_hint_colors_what_is_nearest_to_it():
    grey = np.full((20, 60, 1), 100, np.uint8)
    hints = [ColorHint(x=5, y=10, color="#a04040"), ColorHint(x=54, y=10, color="#40a040")]
    out = add_hints([np.repeat(grey, 3, 2)], grey, hints, (20, 60))[0].astype(int)
    assert out[10, 5, 0] > out[10, 5, 1] and out[10, 54, 1] > out[10, 54, 0]
    assert np.array_equal(out[:, :30, 0] > out[:, :30, 1], np.ones((20, 30), bool))


def test_each_sample_keeps_its_own_luma():
    grey, samples = levels(12, 16, channels=1), [levels(12, 16, seed=k) // 2 + 64 for k in (1, 2)]
    made = add_hints(samples, grey, [ColorHint(x=4, y=4, color="#704060")], (12, 16))
    for sample, out in zip(samples, made, strict=True):
        # as the module says for one; far from black and white, so that only the three channels' rounding is left
        assert np.abs(out @ LUMA - sample @ LUMA).max() <= 0.5 + 1e-3
        assert np.array_equal(out, add_hints([sample], grey, [ColorHint(x=4, y=4, color="#704060")], (12, 16))[0])


def test_places_are_those_of_the_whole_image():
    grey = levels(8, 8, channels=1)
    hint, sample = ColorHint(x=79, y=40, color="#00ff00"), np.repeat(grey, 3, 2)
    assert np.array_equal(
        *add_hints([sample], grey, [hint], (80, 80)),
        *add_hints([sample], grey, [ColorHint(x=7, y=4, color="#00ff00")], (8, 8)),
    )


def test_a_hint_beyond_the_image_is_refused():
    with pytest.raises(UserError, match=r"old.png: the hint at \(16, 0\) lies outside the image of 16×20 pixels"):
        check_hints([ColorHint(x=16, y=0, color="#00ff00")], (20, 16), "old.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "no list of 1 to 1,000 hints"),
        ("7", "no list of 1 to 1,000 hints"),
        ('[{"x": 1, "y": 2}]', "hint 1: has other keys than x, y and color"),
        ('[{"x": 1, "y": 2, "color": "red"}]', "hint 1: 'red' is no color. Write it as #rrggbb"),
        ('[{"x": -1, "y": 2, "color": "#112233"}]', "a place is 0 or more"),
        ('[{"x": 1.5, "y": 2, "color": "#112233"}]', "x and y must be whole numbers"),
        ('[{"x": true, "y": 2, "color": "#112233"}]', "x and y must be whole numbers"),
        ('[{"x": 1, "y": 2, "color": "#112233", "z": 3}]', "other keys"),
        ("[3]", "other keys"),
        (json.dumps([{"x": 0, "y": 0, "color": "#000000"}] * 1001), "no list of 1 to 1,000 hints"),
        ("[" * 100_000, "JSON"),
        (" " * (2 << 20), "no list"),
    ],
)
def test_a_file_that_is_no_list_of_hints_is_refused(tmp_path, content, message):
    path = tmp_path / "points.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as refused:
        read_hints(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


def test_hints_are_read_in_their_order(tmp_path):
    path = tmp_path / "points.json"
    path.write_text('[{"x": 3, "y": 4, "color": "#102030"}, {"x": 5, "y": 6, "color": "#ffffff"}]')
    assert read_hints(path) == (ColorHint(x=3, y=4, color="#102030"), ColorHint(x=5, y=6, color="#ffffff"))
    assert read_hints(str(path))[0].rgb == (16 / 255, 32 / 255, 48 / 255)
