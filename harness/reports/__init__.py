"""Reports over records: energy, comparison, verification, reproduction, ablation, ladder."""
