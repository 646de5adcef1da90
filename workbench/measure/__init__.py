"""What an edit changed: answers, scores with intervals, and the scorecard."""
