"""Evaluation: tables, reports and pages."""
