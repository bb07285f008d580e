"""Its page's scripts, styles and fonts are files, and it asks for its own version's record."""

from PyInstaller.utils.hooks import collect_data_files, copy_metadata

datas = collect_data_files("textual_serve", excludes=["templates"]) + copy_metadata("textual-serve")
