"""Print the lowest versions that pyproject.toml states, as constraints for pip."""

import re
import tomllib
from pathlib import Path


text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
project = tomllib.loads(text)["project"]
extras = project["optional-dependencies"]
for requirement in [*project["dependencies"], *extras["plot"], *extras["dev"]]:
    if lowest := re.match(r"([\w.-]+)>=([\w.]+)", requirement):
        print(f"{lowest[1]}=={lowest[2]}")
