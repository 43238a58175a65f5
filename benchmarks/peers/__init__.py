"""How others group speaker embeddings: their published rules, written anew, for comparison."""
