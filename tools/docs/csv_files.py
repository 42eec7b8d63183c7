"""An mkdocs hook that adds the CSV files of benchmarks/ linked from docs/benchmarks.md to the site, below results/."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]


def on_files(files, config):
    for path in sorted((ROOT / "benchmarks").glob("*/*.csv")):
        name = f"results/{path.parent.name}/{path.name}"
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    return markdown.replace("](../benchmarks/", "](results/")
