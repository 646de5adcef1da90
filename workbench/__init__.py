"""An interpretability-driven edit workbench: localize, edit, measure, export."""

__version__ = "0.1.0"
