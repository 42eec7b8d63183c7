"""``python -m pygan``: the build report, in a form to paste into a bug report."""

from pygan import build_info


def main() -> None:
    """Prints build_info(), one line an entry."""
    info = build_info()
    width = max(map(len, info))
    for key, value in info.items():
        shown = (", ".join(value) or "none") if isinstance(value, list) else value
        print(f"{key:<{width}}  {'none' if shown == '' else shown}")


if __name__ == "__main__":
    main()
