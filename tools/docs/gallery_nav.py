"""An mkdocs hook that adds the gallery's pages to the navigation in the order of docs/gallery/index.md."""

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
