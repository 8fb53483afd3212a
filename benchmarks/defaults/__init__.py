"""Quality of a first model: `farandole init` and `farandole run` without an edit, compared with boosted trees."""
