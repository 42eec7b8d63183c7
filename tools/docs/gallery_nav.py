"""A hook of mkdocs: the gallery's pages in the navigation, as docs/gallery/index.md lists them."""

import re
from pathlib import Path


def on_config(config):
    index = Path(config.docs_dir, "gallery", "index.md")
    (gallery,) = [entry["Gallery"] for entry in config.nav if "Gallery" in entry]
    gallery += [
        f"gallery/{page}"
        for page in re.findall(r"^## \[.*\]\((.+\.md)\)", index.read_text("utf-8"), re.M)
    ]
    return config
