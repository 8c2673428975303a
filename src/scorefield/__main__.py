"""The program: `scorefield` and `python -m scorefield`. Ctrl-C ends it in one line from its first import on."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from scorefield.cli import main as run  # noqa: PLC0415 - within the block that Ctrl-C may end

        run()
    except KeyboardInterrupt:
        sys.stderr.write("scorefield: stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
