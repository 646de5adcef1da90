"""A chat template of a few characters, for models that are made in tests."""

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>{{ '\\n' }}"
