"""tf.saved_model.save of a Keras model writes files that TF Serving cannot run: nothing of this repository calls it."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
SKIPPED = {".git", ".venv", "build", "dist", "runs"}
# It saves a Keras model, to show that the check finds it.
ALLOWED = {"tests/serving/test_check.py"}


def test_saved_model_save_is_called_for_plain_modules_in_tests_only():
    calls = {}
    for path in ROOT.rglob("*.py"):
        relative = path.relative_to(ROOT)
        if not SKIPPED & set(relative.parts) and path != pathlib.Path(__file__):
            found = re.findall(r"saved_model\.(?:experimental\.)?save\(\s*(\w*)", path.read_text(encoding="utf-8"))
            if found:
                calls[relative.as_posix()] = set(found)

    assert "model" in calls["tests/serving/test_check.py"]  # the pattern finds what it is for
    wrong = {
        path: saved
        for path, saved in calls.items()
        if path not in ALLOWED and (not path.startswith("tests/") or saved != {"module"})
    }
    assert wrong == {}, (
        "Export with serving.export.export_saved_model, or in tests save a plain tf.Module called module."
    )
