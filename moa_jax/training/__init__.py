"""How networks are fitted: members, stages, the loop, optimisers, losses and checkpoints."""
