"""Its widgets are imported by name, its styles are files, and it asks for its own version's record."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules, copy_metadata

datas = collect_data_files("textual", excludes=["demo"]) + copy_metadata("textual")
hiddenimports = collect_submodules("textual.widgets") + collect_submodules("textual.drivers")
excludedimports = ["textual.demo"]
