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

# %% 9.6
my_winners = {1: 'sskd_teacher_head', 4: 'all_at_once_teacher_head', 16: 'all_at_once_teacher_head'}
# note: The tempting mistake is one name three times. At 4 x the first two lie 0.15 points apart.
# note: Good to discuss: means chose these winners, of five seeds, at 16 x of three. What is shown stands in the list of
# note: intervals below the exercise.

# %% 9.7
def cost_of_level(gmacs, accuracy, level):
    "GMACs at which a curve first reaches `level`; nan if that is not within the curve"
    above = np.flatnonzero(accuracy >= level)
    if len(above) == 0 or above[0] == 0: return float('nan')
    end = above[0]
    share = (level - accuracy[end-1])/(accuracy[end] - accuracy[end-1])
    return np.exp(np.log(gmacs[end-1]) + share*(np.log(gmacs[end]) - np.log(gmacs[end-1])))
# note: Common mistakes: `np.interp` without `left` and `right`, which gives the first or last budget for any level beyond it,
# note: and `np.interp` on a curve that dips: it expects rising values and says nothing when they are not.
