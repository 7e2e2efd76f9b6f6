# %% 4.1
guess = 3
# note: Attention sums over the channels, similarity and relations compare images; only the mimic loss asks which channel it was.

# %% 4.2
def distance_loss(s, t):
    "Distances of all pairs, each network's in units of its own mean"
    def in_units(vectors):
        found, b = torch.cdist(vectors, vectors), len(vectors)
        return found/(found.sum()/(b*(b - 1)))
    return F.smooth_l1_loss(in_units(s), in_units(t))
# note: Common mistakes: `found.mean()`, which counts the zeros of the diagonal; `F.pdist`, whose loss is a mean over pairs and
# note: not over the tables.

# %% 4.3
def contrast(s, t, y, T=.1):
    "Find your own image among those of other classes, within a batch; s, t (b,d), y (b,)"
    scores = F.normalize(s) @ F.normalize(t).T/T
    own = torch.arange(len(s))
    same_class = (y[:, None] == y) & (own[:, None] != own)
    return F.cross_entropy(scores.masked_fill(same_class, -torch.inf), own)
# note: Without the mask two boots push each other apart, which works against the classes. CRD leaves the own class out as well.

# %% 4.4
def blind(hint):
    "Maps that attention and similarity take for the hint itself"
    return -hint
# note: Squares and products of two images do not change when every sign does. Behind a ReLU no student can do this;
# note: shuffling the channels is a legal way and passes, too, where the channels differ enough.
