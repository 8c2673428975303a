"""Filling wide masks with what the rest of the image shows.

Patches that overlap the mask, centred on every second row and column, are matched with the most similar patch of the
known part, and propose its pixels for the masked ones; a masked pixel is the weighted mean of its proposals (Wexler et
al. 2007, §3.2). Matching and averaging take turns, from a coarse image to the full one. Large images are matched by
propagation and random search (Barnes et al. 2009, §3.2); it propagates by jumps of 8, 4 and 2 pixels, so that all
patches are matched at once. The distance of two patches compares their texture too, the mean absolute gradient around
each pixel: without it smooth patches win (Newson et al. 2014, §3.2).

References:
    Wexler, Shechtman and Irani (2007), Space-time completion of video. https://doi.org/10.1109/TPAMI.2007.60
    Barnes, Shechtman, Finkelstein and Goldman (2009), PatchMatch. https://doi.org/10.1145/1531326.1531330
    Newson, Almansa, Fradet, Gousseau and Pérez (2014), Video inpainting of complex scenes.
        https://doi.org/10.1137/140954933
"""

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from scorefield.degradations import Box
from scorefield.degradations.smooth import smooth_fill

__all__ = ["bounding_box", "depth", "exemplar_fill"]

_RADIUS = 3
"""Patches of 7 × 7 pixels: wide enough to hold an edge's direction, small enough to be found again."""
_TEXTURE = 1.5
"""Weight of a texture's difference beside a color's."""
_TRUST = 0.8
"""A masked pixel counts this much less in a patch's distance for each pixel that it lies deeper under the mask."""
_START = 0.2
"""Noise on the smooth start, in standard deviations of the image, so that each seed finds patches of its own."""
_COMPARED = 4e8
"""Numbers to compare until which every target is compared with every source: exact, and quicker than a search."""
_SEARCHED = 200_000
"""Targets until which a level is searched. A larger one takes its matches from the coarser level."""
_CHUNK = 32_768
_ROUNDS = (3, 4, 6, 8)
"""Turns of matching and averaging, at the full size and at each half; coarse ones are cheap and decide more."""


def exemplar_fill(image: Tensor, mask: Tensor, *, generator: Generator) -> Tensor:
    """Fill masked pixels with patches of the known part.

    Args:
        image: (C, H, W); its values under the mask are not used.
        mask: (H, W), 1 = fill.
        generator: of the start, the first matches and the search.

    Returns:
        (C, H, W), equal to `image` where the mask is 0. Where no patch of the image is known as a whole, masked pixels
        are interpolated smoothly.
    """
    levels = _pyramid(image, mask > 0)
    if levels is None:
        return _smooth(image, mask > 0)
    coarser, field = None, torch.empty(0, dtype=torch.long)
    for halvings in range(len(levels) - 1, -1, -1):
        level = levels[halvings]
        if coarser is None:
            start = _smooth(level.image, level.mask)
            start = start + _START * start.std() * torch.randn(start.shape, generator=generator)
            level = level.showing(start)
            field = level.random(len(level.targets), generator)
        else:
            field = level.inherited(coarser, field, generator)
            level = level.showing(_enlarged(coarser.image, level))
            searched = len(level.targets) <= _SEARCHED
            level = level.averaged(field, level.distances(field) if searched else torch.zeros(len(field)))
        rounds = 0 if len(level.targets) > _SEARCHED else _ROUNDS[min(halvings, len(_ROUNDS) - 1)]
        for _ in range(rounds):
            field, distances = level.matched(field, generator)
            level = level.averaged(field, distances)
        coarser = level
    assert coarser is not None
    return coarser.image


def depth(mask: Tensor, limit: int) -> Tensor:
    """How deep each pixel lies under a mask: steps to the nearest known pixel among its eight neighbours.

    Args:
        mask: bool (H, W), 1 = fill; beyond the image's edges nothing is known either.
        limit: counted until here.

    Returns:
        int64 (H, W), 0 where the mask is 0, at most `limit`.
    """
    depths = torch.zeros(mask.shape, dtype=torch.long)
    box = bounding_box(mask, 1)
    if box is None:
        return depths
    inside, rest = depths[box.slices], mask[box.slices][None, None].float()
    inside += rest[0, 0].long()
    for _ in range(limit - 1):
        rest = -F.max_pool2d(-F.pad(rest, (1, 1, 1, 1), value=1.0), 3, 1)
        if not bool(rest.any()):
            break
        inside += rest[0, 0].long()
    return depths


def bounding_box(mask: Tensor, margin: int = 0) -> Box | None:
    """The box around all that is True in (H, W), grown by a margin within the image; None where nothing is."""
    rows, columns = _indices(mask.any(1)), _indices(mask.any(0))
    if not len(rows):
        return None
    top, left = (max(0, int(found[0]) - margin) for found in (rows, columns))
    bottom, right = (
        min(side, int(found[-1]) + 1 + margin) for found, side in zip((rows, columns), mask.shape, strict=True)
    )
    return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True, kw_only=True)
class _Level:
    """An image of one size, and the patches to match in it. Pixels are named by their index in (H W).

    Args:
        image: (C, H, W), with the present filling.
        mask: bool (H, W), True = fill.
        targets: centres of patches that overlap the mask, on `_lattice`.
        sources: centres of patches that are known as a whole.
        is_source: bool (H W).
        trust: of a pixel within a patch's distance, (H W): 1 where it is known.
    """

    image: Tensor
    mask: Tensor
    targets: Tensor
    sources: Tensor
    is_source: Tensor
    trust: Tensor

    @classmethod
    def of(cls, image: Tensor, mask: Tensor) -> "_Level":
        """The level of an image; patches lie within the image."""
        inside = torch.zeros_like(mask)
        inside[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS] = True
        overlaps = F.max_pool2d(mask[None, None].float(), 2 * _RADIUS + 1, 1, _RADIUS)[0, 0] > 0
        is_source = (inside & ~overlaps).flatten()
        return cls(
            image=image,
            mask=mask,
            targets=_indices(inside & overlaps & _lattice(mask)),
            sources=_indices(is_source),
            is_source=is_source,
            trust=(_TRUST ** depth(mask, 20)).flatten(),
        )

    @property
    def width(self) -> int:
        return self.mask.shape[1]

    def showing(self, image: Tensor) -> "_Level":
        """The same with another filling."""
        return replace(self, image=torch.where(self.mask, image, self.image))

    def random(self, count: int, generator: Generator) -> Tensor:
        """Sources by chance, (count,)."""
        return self.sources[torch.randint(len(self.sources), (count,), generator=generator)]

    def inherited(self, coarser: "_Level", field: Tensor, generator: Generator) -> Tensor:
        """The targets' matches by the matches of a level of half the size."""
        h, w = coarser.mask.shape
        everywhere = torch.full((h * w,), -1)
        everywhere[coarser.targets] = field
        y, x = self.targets // self.width, self.targets % self.width
        match = torch.full_like(self.targets, -1)
        for dy, dx in product((0, 1, -1), repeat=2):  # a target at the rim may have none at the coarser level
            near_y, near_x = (y // 2 + dy).clamp(0, h - 1), (x // 2 + dx).clamp(0, w - 1)
            near = everywhere[near_y * w + near_x]
            shifted = near - (near_y - y // 2) * w - (near_x - x // 2)
            match = torch.where((match < 0) & (near >= 0), shifted, match)
        match_y, match_x = 2 * (match // w) + y % 2, 2 * (match % w) + x % 2
        index, valid = self._source(match_y, match_x)
        return torch.where(valid & (match >= 0), index, self.random(len(match), generator))

    def distances(self, field: Tensor, pixels: Tensor | None = None) -> Tensor:
        """Of each target's patch to its match's, (targets,); `pixels` are the level's features."""
        pixels, offsets = self._features() if pixels is None else pixels, self._offsets()
        parts = zip(self.targets.split(_CHUNK), field.split(_CHUNK), strict=True)
        return torch.cat([self._distance(pixels, offsets, *part) for part in parts])

    def matched(self, field: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A match for each target, no worse than the one it has, and their distances."""
        pixels, offsets = self._features(), self._offsets()
        if len(self.targets) * len(self.sources) * len(offsets) * pixels.shape[1] < _COMPARED:
            return self._nearest(pixels, offsets)
        y, x = self.targets // self.width, self.targets % self.width
        everywhere = torch.full((self.mask.numel(),), -1)
        found, best = field.clone(), self.distances(field, pixels)

        def attempt(index: Tensor, valid: Tensor) -> None:
            at = (valid & (index != found)).nonzero()[:, 0]
            for part in at.split(_CHUNK):
                distance = self._distance(pixels, offsets, self.targets[part], index[part])
                closer = distance < best[part]
                found[part[closer]], best[part[closer]] = index[part[closer]], distance[closer]

        for jump, (dy, dx) in product((8, 4, 2), ((0, 1), (0, -1), (1, 0), (-1, 0))):
            everywhere[self.targets] = found
            near, inside = self._index(y + jump * dy, x + jump * dx)
            match = everywhere[near]
            index, valid = self._source(match // self.width - jump * dy, match % self.width - jump * dx)
            attempt(index, valid & inside & (match >= 0))
        reach = max(self.mask.shape) // 2
        while reach >= 1:
            dy, dx = torch.randint(-reach, reach + 1, (2, len(found)), generator=generator)
            attempt(*self._source(found // self.width + dy, found % self.width + dx))
            reach //= 2
        return found, best

    def averaged(self, field: Tensor, distances: Tensor) -> "_Level":
        """Each masked pixel as the mean of what the patches around it propose.

        A patch counts by exp(−d/2s), where s is the third quartile of all distances d (Wexler et al., §3.2), and by
        the trust in its centre.
        """
        scale = torch.quantile(distances[:: 1 + len(distances) // _CHUNK], 0.75).clamp_min(1e-12)
        weight, match = torch.zeros(self.mask.numel()), torch.zeros(self.mask.numel(), dtype=torch.long)
        weight[self.targets] = torch.exp(-distances / (2 * scale)).clamp_min(1e-12) * self.trust[self.targets]
        match[self.targets] = field
        masked = _indices(self.mask)
        y, x = masked // self.width, masked % self.width
        pixels = self.image.flatten(1).T.contiguous()
        total, sums = torch.zeros(len(masked), 1), torch.zeros(len(masked), pixels.shape[1])
        for dy, dx in product(range(-_RADIUS, _RADIUS + 1), repeat=2):
            centre, inside = self._index(y - dy, x - dx)
            by = torch.where(inside, weight[centre], 0.0)[:, None]
            proposed = torch.where(by[:, 0] > 0, match[centre] + dy * self.width + dx, 0)
            sums += by * pixels[proposed]
            total += by
        pixels[masked] = sums / total.clamp_min(1e-30)
        return replace(self, image=pixels.T.reshape(self.image.shape).contiguous())

    def _features(self) -> Tensor:
        """What is compared, (H W, C + 2): colors and texture."""
        grey = self.image.mean(0)[None, None]
        slopes = [
            F.pad((grey[..., 1:] - grey[..., :-1]).abs(), (0, 1)),
            F.pad((grey[..., 1:, :] - grey[..., :-1, :]).abs(), (0, 0, 0, 1)),
        ]
        texture = F.avg_pool2d(F.pad(torch.cat(slopes, 1), [_RADIUS] * 4, mode="reflect"), 2 * _RADIUS + 1, 1)
        return torch.cat([self.image, _TEXTURE * texture[0]]).flatten(1).T.contiguous()

    def _offsets(self) -> Tensor:
        span = torch.arange(-_RADIUS, _RADIUS + 1)
        return (span[:, None] * self.width + span).flatten()

    def _distance(self, pixels: Tensor, offsets: Tensor, targets: Tensor, matches: Tensor) -> Tensor:
        here, there = targets[:, None] + offsets, matches[:, None] + offsets
        weight = self.trust[here]
        return ((pixels[here] - pixels[there]).square().sum(-1) * weight).sum(1) / weight.sum(1)

    def _nearest(self, pixels: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest of all sources: Σ w (t − s)² = Σ w t² − 2 Σ (w t) s + Σ w s²."""
        here = self.targets[:, None] + offsets
        weight = self.trust[here] / self.trust[here].sum(1, keepdim=True)
        target = pixels[here]
        weighted = (target * weight[..., None]).flatten(1)
        squares = (target.square().sum(-1) * weight).sum(1, keepdim=True)
        found, best = self.sources.new_zeros(len(target)), torch.full((len(target),), torch.inf)
        for sources in self.sources.split(4096):
            source = pixels[sources[:, None] + offsets]
            distance = squares - 2 * weighted @ source.flatten(1).T + weight @ source.square().sum(-1).T
            least, at = distance.min(1)
            closer = least < best
            found, best = torch.where(closer, sources[at], found), torch.minimum(least, best)
        return found, best.clamp_min(0)

    def _index(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of places, 0 where they lie outside, and whether they lie inside."""
        inside = (y >= 0) & (y < self.mask.shape[0]) & (x >= 0) & (x < self.width)
        return torch.where(inside, y * self.width + x, 0), inside

    def _source(self, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of places, and whether they are sources."""
        index, inside = self._index(y, x)
        return index, inside & self.is_source[index]


def _pyramid(image: Tensor, mask: Tensor) -> list[_Level] | None:
    """The image and its halves, until the mask is no deeper than a patch; None where there is nothing to copy."""
    side, few = 2 * _RADIUS + 1, 64
    levels: list[_Level] = []
    while min(mask.shape) >= side:
        level = _Level.of(image, mask)
        if not len(level.sources) or (levels and (len(level.sources) < few or min(mask.shape) < 4 * side)):
            break
        levels.append(level)
        if int(depth(mask, _RADIUS + 2).max()) <= _RADIUS + 1:
            break
        image, mask = _halved(image, mask)
    return levels or None


def _halved(image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Half the size: means of the known pixels, masked where less than half is known."""
    h, w = (length // 2 * 2 for length in mask.shape)
    known = (~mask[:h, :w]).to(image)[None, None]
    share = F.avg_pool2d(known, 2)
    mean = F.avg_pool2d(image[None, :, :h, :w] * known, 2) / share.clamp_min(0.25)
    return mean[0], share[0, 0] < 0.5


def _lattice(mask: Tensor) -> Tensor:
    """Every second row and column, and the last: a quarter of the patches covers each pixel about 12 times."""
    chosen = torch.zeros_like(mask)
    rows, columns = ([*range(_RADIUS, side - _RADIUS, 2), side - _RADIUS - 1] for side in mask.shape)
    chosen[torch.tensor(rows)[:, None], torch.tensor(columns)] = True
    return chosen


def _smooth(image: Tensor, mask: Tensor) -> Tensor:
    return smooth_fill(image[None], mask[None, None].to(image))[0]


def _enlarged(image: Tensor, level: _Level) -> Tensor:
    return F.interpolate(image[None], size=tuple(level.mask.shape), mode="bilinear")[0]


def _indices(places: Tensor) -> Tensor:
    return places.flatten().nonzero()[:, 0]
