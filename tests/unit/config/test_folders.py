"""Files that strongSwan would load from beside the configuration."""

from pathlib import Path

import pytest

from cygnet.config.folders import FOLDERS
from cygnet.config.load import load_settings


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_warned_of_by_name(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    path = tmp_path / "swanctl.conf"
    path.write_text("connections { }")
    assert load_settings(str(path)).warnings == ()
    for name in ("b.pem", "a.pem", ".hidden", "c.pem", "d.pem"):
        (tmp_path / folder / name).write_text("a private key")
    (warning,) = load_settings(str(path)).warnings
    assert str(warning).startswith(
        f'{tmp_path / folder}: warning: "a.pem", "b.pem", "c.pem" and 1 more can\'t be used: certificates are not'
    )
    assert "a private key" not in str(warning)


def test_a_file_of_another_name_has_no_such_folders(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "diary").write_text("")
    path = tmp_path / "gw.conf"
    path.write_text("connections { }")
    assert load_settings(str(path)).warnings == ()
