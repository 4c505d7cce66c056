"""Who answers: explainers, a file or two for each family.

FAMILIES says which files hold the methods of a family; the other files hold what several methods share.
"""

FAMILIES: dict[str, tuple[str, ...]] = {
    "Controls": ("controls",),
    "Perturbation": ("perturbation", "replacement", "noiser"),
    "Gradient": ("gradient", "path_gradients", "deeplift", "gim"),
    "Surrogate": ("surrogate", "shapley", "anchors"),
    "Decomposition": ("decomposition", "vector_decomposition"),
    "Attention": ("attention",),
}
