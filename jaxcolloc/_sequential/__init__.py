"""Sequential training: the model integrated in every step."""

from .fine_tune import fine_tune as fine_tune
