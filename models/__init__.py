"""Language models to study and the text they learn from: corpus, tokenizer, transformer, training."""
