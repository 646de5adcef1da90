"""What is edited: models, their components, and the weight deltas that are edits."""
