"""What people read: pages, tables, figures and text of evaluations, comparisons and inspections."""

from pathlib import Path

TEMPLATES = Path(__file__).parent / "templates"  # Of all pages, those of heat maps included.
