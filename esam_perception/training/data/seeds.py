"""Which scenes of the simulated tabletop are for what, by their first seeds.

Worlds (meshes, textures) are shared within blocks of tabletop.scene.SCENES_PER_WORLD only: these ranges share none.
"""

TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 0, 800_000, 900_000
