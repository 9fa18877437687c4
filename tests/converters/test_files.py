"""Targets are written whole or not at all."""

from pathlib import Path

import pytest

from isomorph.converters.files import atomic_path, check_target
from isomorph.errors import TargetExistsError, UsageError


def test_the_old_content_stays_until_the_new_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("half of the new")
        assert target.read_text() == "old"
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_target_is_checked_before_any_work(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    check_target(target, force=False)
    target.write_text("old")
    with pytest.raises(TargetExistsError, match=r"model\.onnx"):
        check_target(target, force=False)
    check_target(target, force=True)
    with pytest.raises(UsageError, match="folder"):
        check_target(tmp_path / "missing" / "model.onnx", force=False)
    with pytest.raises(UsageError, match="folder"):
        check_target(tmp_path, force=True)
