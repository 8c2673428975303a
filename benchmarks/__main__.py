"""All benchmarks, one command: python -m benchmarks. Results go to benchmarks/results with machine and date.

python -m benchmarks                    start-up, memory, feeding, samplers' overhead, traces: three minutes
python -m benchmarks --fashion          and quality against training time beside the peer, 3 minutes each
python -m benchmarks --fashion --minutes 3 10 30 --peer-minutes 3
python -m benchmarks --ncsn --peer CLONE   RefineNet beside its authors' program, three minutes
python -m benchmarks --samplers            every sampler, quality against evaluations; hours, resumed likewise
python -m benchmarks --palette --peer CLONE    models that restore: the community's network, degradation, megapixels
python -m benchmarks --restoration --n 100 --out DIR   every method on every degradation, resumed likewise
python -m benchmarks --gaussians           methods of restoration on Gaussians, whose posteriors are known
python -m benchmarks --tools --model RUN --data PHOTOS --task dejpeg:10 --out DIR   a model beside classical tools
"""

import argparse
import json
import os
import platform
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks import fashion, ncsn, objectives, palette, restoration, samplers, small
from benchmarks.restoration import gaussians
from scorefield.files import write_atomic

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parents[1] / "docs" / "images"


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    chips = re.findall(r"model name\s*: (.*)", info.read_text()) if info.is_file() else [platform.processor()]
    return {
        "processor": f"{len(chips)} × {chips[0]}",
        "threads": torch.get_num_threads(),
        "bfloat16": torch.cpu._is_avx512_bf16_supported(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": os.getloadavg()[0],
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def keep(name: str, results: dict[str, Any], path: Path | None = None) -> None:
    """Write the results of one benchmark, by default to its place among them all."""
    path = write_atomic(path or RESULTS / f"{name}.json", json.dumps(machine() | {"results": results}, indent=1) + "\n")
    print(path)


def compare_samplers(model: str, data: Path, out: Path | None, n: int) -> None:
    """Run or resume the comparison; its plot goes to the docs, or beside `out`."""
    path = out or RESULTS / "samplers.json"
    results = samplers.run(model, data, lambda now: keep("samplers", now, path), samplers.earlier(path), n=n)
    print(samplers.plot(results, path.with_suffix(".png") if out else IMAGES / "samplers.png"))


def restore(args: argparse.Namespace) -> None:
    """Run or resume the comparison of restorers; table and sheets go to `out` or a folder of results."""
    results = restoration.run(
        args.model,
        args.data,
        args.out or RESULTS / "restoration",
        n=args.n,
        candidates=args.candidates,
        evaluations=args.evaluations,
        degradations=args.degradation,
        methods=args.method,
    )
    keep("restoration", results, args.out and args.out / "results.json")


def main() -> None:
    """Parse, run, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    option = parser.add_argument
    option("--fashion", action="store_true", help="training against the peer on all of Fashion-MNIST")
    option("--ncsn", action="store_true", help="RefineNet against the program of NCSN's authors")
    option("--palette", action="store_true", help="models that restore: speed, degradation, large images")
    option("--peer", type=Path, help="a clone: of ermongroup/ncsn, or of the community's Palette")
    option("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="its IDX folder")
    option("--minutes", type=float, nargs="+", default=[3.0], help="marks of our training")
    option("--peer-minutes", type=float, nargs="*", default=[3.0], help="marks of the peer's")
    option("--samplers", action="store_true", help="every sampler: quality against evaluations")
    option("--model", help="by default fashion, of --palette photos: a name, a run folder or a file")
    option("--n", type=int, default=1000, help="of --samplers: images of each cell")
    option("--restoration", action="store_true", help="every restorer on every degradation")
    option("--gaussians", action="store_true", help="methods of restoration where the posterior is known")
    option("--tools", action="store_true", help="a model of restoration beside classical tools")
    option("--task", action="append", default=[], help="of --tools, repeatable: dejpeg:10, inpaint:brush …")
    option("--candidates", type=int, default=3, help="of --restoration: candidates for each image, a seed each")
    option("--degradation", action="append", help="of --restoration, repeatable: center, half, brush, jpeg …")
    option("--method", action="append", help="of --restoration, repeatable: pigdm, dps-published …")
    option("--evaluations", type=int, default=100, help="of --restoration: for each candidate")
    option("--samples", type=int, default=2000)
    option("--peer-samples", type=int, default=500, help="fewer: it draws one or two a second")
    option("--out", type=Path, help="keep checkpoints and grids here; of --samplers: the JSON")
    args = parser.parse_args()
    args.model = args.model or ("photos" if args.palette else "fashion")
    if args.ncsn:
        if args.peer is None:
            parser.error("--ncsn needs --peer, a clone of github.com/ermongroup/ncsn")
        keep("ncsn", ncsn.run(args.peer))
        return
    if args.gaussians:
        results = gaussians.run(lambda now: keep("gaussians", now, args.out))
        print(gaussians.table(results))
        return
    if args.palette:
        keep("palette", palette.run(args.peer, args.model))
        return
    if args.samplers:
        compare_samplers(args.model, args.data, args.out, args.n)
        return
    if args.tools:
        out = args.out or RESULTS / "tools"
        restoration.compare_with_tools(
            args.model, str(args.data), out, tasks=args.task, n=args.n, candidates=args.candidates
        )
        return
    if args.restoration:
        restore(args)
        return
    if not args.fashion:
        keep("small", small.run())
        keep("objectives", objectives.run())
        return
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder)
        results = fashion.run(
            args.data,
            args.minutes,
            out,
            samples=args.samples,
            peer_minutes=args.peer_minutes,
            peer_samples=args.peer_samples,
        )
    keep("fashion", results)


if __name__ == "__main__":
    main()
