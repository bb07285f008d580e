"""It asks for its own version's record while it is imported."""

from PyInstaller.utils.hooks import copy_metadata

datas = copy_metadata("llguidance")
