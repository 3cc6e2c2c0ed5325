"""Measure speed, memory and quality of this library and its peers in one run: `python -m analyses.bench.sae`, …"""
