"""What Sphinx is told: Markdown as it lies in the repository, one theme, nothing from the network."""

project = "Relevo"
author = "the Relevo maintainers"
root_doc = "docs/README"

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
# Blocks without a language hold commands, or drawings made of letters.
highlight_language = "text"

html_theme = "furo"
html_title = "Relevo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {
    # Those of the system: no font comes from elsewhere.
    "light_css_variables": {"font-stack": "system-ui, sans-serif", "font-stack--monospace": "ui-monospace, monospace"},
    "top_of_page_buttons": [],
}
