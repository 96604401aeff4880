"""Finds the packages; everything else about the project stands in pyproject.toml.

`src/genie_rt` has links to the folders at the top. Where git makes no links, as on Windows, it leaves a file
with the link's text in the place of each; those folders are mapped to their packages here.
"""

from pathlib import Path

from setuptools import find_packages, setup

texts = [path for path in Path("src/genie_rt").iterdir() if path.is_file() and not path.suffix]
mapped = {f"genie_rt.{path.name}": path.name for path in texts}
packages = find_packages("src")
for package, folder in mapped.items():
    packages += [package, *(f"{package}.{inner}" for inner in find_packages(folder))]
setup(packages=packages, package_dir={"": "src", **mapped})
