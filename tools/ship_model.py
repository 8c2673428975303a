"""Put a run's averaged weights among the bundled models, with the notes of its card.

NAME.TASK ships a specialist, which restores that task in the place of the bundled NAME.

python tools/ship_model.py RUN NAME --about "…" --licence MIT --measures "FD … = …" [--half]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from scorefield import checkpoint
from scorefield.hub import find

MODELS = Path(__file__).parent.parent / "src" / "scorefield" / "assets" / "models"


def main() -> None:
    """Load, annotate, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("name")
    parser.add_argument("--about", required=True, help="what it draws, in a line")
    parser.add_argument("--licence", required=True, help="of the weights and of the data")
    parser.add_argument("--measures", required=True, help="how good it is, and on what that was measured")
    parser.add_argument("--limits", default="It draws only images like those it was trained on.")
    parser.add_argument("--half", action="store_true", help="weights of 16 bits: half the size of the file")
    parser.add_argument("--steps", type=int, help="with which it restores best")
    parser.add_argument("--tile", type=int, help="side of the tiles in which it restores as well as in smaller ones")
    parser.add_argument("--overlap", type=int, help="of tiles, where less than 32 pixels is enough")
    parser.add_argument("--max-jpeg-quality", type=int, help="quality of JPEG files beyond which it does harm")
    parser.add_argument(
        "--rim", type=int, help="how deep under a mask the network fills, before patches of the image do"
    )
    args = parser.parse_args()
    path = find(args.run)
    notes = checkpoint.read_card(path)["notes"]
    described = {key: getattr(args, key) for key in ("about", "licence", "measures", "limits")}
    model = checkpoint.load(path)
    if (known := model.spec.restoration) is not None:
        known = replace(
            known,
            steps=args.steps or known.steps,
            max_jpeg_quality=args.max_jpeg_quality or known.max_jpeg_quality,
            tile=args.tile or known.tile,
            overlap=args.overlap or known.overlap,
            rim=args.rim or known.rim,
        )
        model.spec = replace(model.spec, restoration=known)
    dtype = torch.float16 if args.half else None
    shipped = MODELS / f"{args.name}.safetensors"
    print(checkpoint.save(model, shipped, notes=described | notes, dtype=dtype))


if __name__ == "__main__":
    main()
