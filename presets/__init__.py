"""One folder per preset: config.json, weights, card. Installed as zoo.presets."""
