"""Colors of other spaces, as sRGB.

CIELab with the white point D50 (the values of TIFF and ICC) becomes sRGB by way of XYZ:

    f_y = (L + 16)/116,  f_x = f_y + a/500,  f_z = f_y − b/200,    X = X_n g(f_x), …
    g(f) = f³ where f > 6/29, else 3 (6/29)² (f − 4/29)

Grey with a profile, and CMYK, look as the profile of the file says, by LittleCMS. CMYK without a profile of CMYK has no
colors that are known, and is refused. In a JPEG file its inks are stored inverted, with Adobe's marker or without it,
as browsers take them.

References:
    CIE 15:2004, §8.2.1; IEC 61966-2-1 (sRGB); the matrix is sRGB's, adapted to D50 by Bradford (ICC.1:2022, annex E).
"""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from scorefield.errors import ImageReadError

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B in luma, by ITU-R BT.601, also JPEG's; their sum is 1."""

_D50 = np.array([0.9642, 1.0, 0.8249])
_XYZ_TO_RGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
_ROWS = 256  # at a time, to bound memory


def lab_to_srgb(stored: NDArray[Any], *, signed: bool) -> NDArray[np.uint16]:
    """CIELab samples as sRGB of 16 bits; colors outside of sRGB are clipped.

    Args:
        stored: (H, W, 3), of 8 or 16 bits. L has its full range.
        signed: whether a and b are two's complement (TIFF's CIELab), or have 128 added (ICC's).
    """
    deep = stored.dtype == np.uint16
    out = np.empty(stored.shape, np.uint16)
    for top in range(0, len(stored), _ROWS):
        part = stored[top : top + _ROWS]
        lightness = part[..., 0] * (100 / (65535 if deep else 255))
        if signed:
            chroma = part[..., 1:].astype(part.dtype).view(np.int16 if deep else np.int8) / (256 if deep else 1)
        else:
            chroma = part[..., 1:] / (257 if deep else 1) - 128
        fy = (lightness + 16) / 116
        f = np.stack([fy + chroma[..., 0] / 500, fy, fy - chroma[..., 1] / 200], axis=2)
        xyz = _D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
        linear = (xyz @ _XYZ_TO_RGB.T).clip(0, 1)
        shown = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        out[top : top + _ROWS] = np.rint(65535 * shown)
    return out


def cmyk_to_srgb(image: Image.Image, icc: bytes | None) -> NDArray[np.uint8]:
    """A CMYK image as sRGB (H, W, 3), by its color profile.

    Raises:
        ImageReadError: it has no color profile of CMYK.
    """
    if icc is None or icc[16:20] != b"CMYK":
        raise ImageReadError("is a CMYK image. Convert it to RGB first: it has no color profile that says how")
    try:
        return _by_littlecms(image, icc)
    except (ImageCms.PyCMSError, OSError) as error:
        raise ImageReadError(f"is a CMYK image with a color profile that cannot be read ({error})") from None


def grey_to_srgb(levels: NDArray[Any], icc: bytes) -> NDArray[Any]:
    """Grey (H, W, 1) of 8 or 16 bits, by its color profile, as the grey of sRGB; as it is by a profile of no sense."""
    steps = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        curve = _by_littlecms(steps, icc, flags=ImageCms.Flags.NOOPTIMIZE)[0].mean(1)
    except (ImageCms.PyCMSError, OSError):
        return levels
    if levels.dtype == np.uint8:
        return np.rint(curve).astype(np.uint8)[levels]
    table = np.interp(np.arange(65536) / 257, np.arange(256), curve) * 257
    return np.rint(table).astype(np.uint16)[levels]


def _by_littlecms(image: Image.Image, icc: bytes, flags: ImageCms.Flags = ImageCms.Flags.NONE) -> NDArray[np.uint8]:
    """An image as sRGB (H, W, 3), by its color profile and perceptual intent.

    LittleCMS samples the tone curve of grey coarsely unless it is told not to optimize: dark levels of a linear
    curve would be 10 levels off.

    Raises:
        ImageCms.PyCMSError, OSError: the profile is damaged, or not for this image.
    """
    profile = ImageCms.ImageCmsProfile(BytesIO(icc))
    made = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=flags)
    assert made is not None
    return np.asarray(made)
