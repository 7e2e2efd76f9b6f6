# %% 9.1
my_guess = ['sskd', 'simultaneous[weight=100]', 'label_smoothing', 'labels', 'kd']
# note: Features say tens of thousands of numbers an image, and the budget is small. The tempting mistake is `kd` before
# note: `labels`: its epochs cost more, since the teacher must be paid.

# %% 9.2
def paired_interval(a, b):
    "(mean, low, high) of a - b, seed by seed"
    d = (a - b).dropna()
    half = stats.t.ppf(.975, len(d) - 1)*d.std()/len(d)**.5
    return d.mean(), d.mean() - half, d.mean() + half
# note: pandas subtracts by index, so `(a - b).dropna()` does all the matching. If you take `.to_numpy()` you lose it.
# note: Common mistakes: 1.96 instead of t, `np.std` (which divides by n), `len(a - b)`, which counts the missing run.

# %% 9.3
def adjusted(p):
    "Holm's p-values, in the order of `p` (a numpy array)"
    order, out = np.argsort(p), np.empty(len(p))
    out[order] = np.maximum.accumulate(p[order]*np.arange(len(p), 0, -1)).clip(max=1)
    return out
# note: Common mistakes: Bonferroni (every p times m), and giving the numbers back in sorted order.

# %% 9.4
def accuracy_of_best(runs):
    "What is the best setting worth? `runs` has the columns setting, seed, valid, test"
    by = runs.groupby('setting')[['valid', 'test']].mean()
    return by.test[by.valid.idxmax()]
# note: To choose for each seed by itself is honest as well, and passes.
# note: Common mistake: to report `valid` of the chosen one, which is as flattered as `test` was.
# note: The other way round, chosen on `test` and told by `valid`, gives honest numbers; it fails, since the test images chose.

# %% 9.5
my_study = dict(methods=['labels', 'kd_soft', 'sskd_teacher_head'], primary=['sskd_teacher_head', 'kd_soft'], seeds=5,
                images=2000, labels=500, budget=dict(gmacs=1500), bs=32,
                pairs=[dict(teacher='teacher:same-data', student='tutorial:width=16,blocks=1')])
# note: A smaller budget may not do: an epoch over 2,000 images is a large step, and whole epochs must fit within a tenth.
# note: Good answers to discuss: why `labels` is there, and what would have to come out for either method to be recommended.
