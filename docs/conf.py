"""The site of this folder's pages: ``sphinx-build -W -n --keep-going docs OUT``."""

import numbaconv

project = "numbaconv"
author = "The numbaconv developers"
release = version = numbaconv.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx_copybutton"]
smartquotes = False  # types are written as {"zeros", "reflect"}

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"numbaconv {release}"
html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
