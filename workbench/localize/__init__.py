"""Where the model recalls it: every method returns one `Localization`."""
