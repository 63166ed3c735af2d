# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation as a site: the guides as they are, and what antsibull-docs makes of modules, roles and filters."""

project = title = html_title = html_short_title = "handover.postgresql"
project_copyright = "The handover.postgresql authors"

extensions = ["myst_parser", "sphinx_antsibull_ext"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
myst_heading_anchors = 4
default_role = "any"
highlight_language = "YAML+Jinja"
# Ansible's own pages can be linked to by a list of theirs only, which would have to be downloaded.
suppress_warnings = ["ref.ref"]

html_theme = "sphinx_ansible_theme"
html_theme_options = {"documentation_home_url": "index.html", "topbar_links": {}}
html_show_sphinx = html_use_modindex = html_use_index = html_copy_source = False
pygments_style = "ansible"
