"""What the pages share: the workspace, work in the background, charts, texts to copy."""
