"""One script for each claim of the source material: `python -m analyses.claims.towards_monosemanticity`, …"""
