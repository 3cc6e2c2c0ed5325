"""Speed, memory and quality of this library beside its peers, in one run: `python -m analyses.bench.sae`, …"""
