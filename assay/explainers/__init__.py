"""Who answers: explainers, a file or two for each family.

FAMILIES says which files hold the methods of a family; the other files hold what several methods share.
"""

FAMILIES: dict[str, tuple[str, ...]] = {
    "Controls": ("controls",),
    "Perturbation": ("perturbation", "replacement", "noising"),
    "Gradient": ("gradient", "path_gradients", "discretized_paths", "deeplift", "gim"),
    "Surrogate": ("surrogate", "shapley", "anchors"),
    "Decomposition": ("decomposition", "vector_decomposition"),
    "Attention": ("attention",),
    "From files": ("precomputed",),
}
