# %% 7.1
guess = 0
# note: Frozen and in eval mode, stage 1 and its adapter stand still to the bit, and the rest of the teacher never moved.
# note: Common mistake: to think that later stages improve it. They are not in it; the teacher's are.

# %% 7.2
def first_above(measures, stage, level):
    "The first step at which the student's stage is stitched above `level`"
    own = measures[(measures.measure == 'stitched') & (measures.student == stage) & (measures.control == '')]
    steps = own.step[own.value > level]
    return steps.iloc[0] if len(steps) else None
# note: Without `control == ''` you find a control: an untrained network behind the best linear adapter stands at 55 to 56 %
# note: in the made-up tables, and at 13 % in the recorded run.

# %% 7.3
def my_cka(X, Y):
    "Linear CKA, as it is usually written"
    X, Y = X - X.mean(0), Y - Y.mean(0)
    K, L = X @ X.T, Y @ Y.T
    return (K*L).sum()/(K.norm()*L.norm())
# note: Behind a ReLU all features are positive, so without centering every image is like every other, for any network.
# note: Common mistake: the mean over the channels of an image, `X.mean(1)`, which a constant for each channel survives.

# %% 7.4
def debiased_cka(X, Y):
    "Linear CKA without an image's likeness to itself"
    def centered(X):
        K, n = X @ X.T, len(X)
        K = K - K.diag().diag()
        rows = K.sum(0, keepdim=True)/(n - 2)
        K = K - rows - rows.T + K.sum()/((n - 1)*(n - 2))
        return K - K.diag().diag()
    K, L = centered(X.double()), centered(Y.double())
    return (K*L).sum()/(K.norm()*L.norm())
# note: Centering the features first changes nothing here, since the centering of the matrix removes it; both are right.
# note: Common mistakes: dividing by n, zeroing the diagonal only after centering, forgetting to zero it at the end.

# %% 7.5
def hide(f, head):
    "Features that answer as these do, and resemble them less than strangers do"
    unseen = torch.linalg.svd(head.weight, full_matrices=True)[2][10:]
    said = head(f).argmax(1)
    place = torch.stack([(said[:i] == c).sum() for i, c in enumerate(said)])
    return f + 100*f.std()*unseen[place % len(unseen)]
# note: The n-th image of each class goes to the n-th place, so those that share a place are of different classes.
# note: Lower still, about -0.4: the last eigenvectors of the debiased, centered Gram matrix, each along
# note: an unseen direction of its own.
