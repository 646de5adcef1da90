"""What an interactive user has at hand: a model, a request, chosen places, a stack of edits."""

from workbench.workspace.work import Work
from workbench.workspace.workspace import StackedEdit, Workspace, edited_model

__all__ = ["StackedEdit", "Work", "Workspace", "edited_model"]
