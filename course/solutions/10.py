# %% 10.1
guess = .93
# note: The tempting guess is the product of both accuracies, about 0.85. But hard images are hard for both, and even most of
# note: the wrong answers coincide.

# %% 10.2
def agreement_on(teacher, student, dl):
    "Share of the images of a loader to which both give the same answer"
    same = torch.cat([teacher(x).argmax(1) == student(x).argmax(1) for x, _ in dl])
    return same.float().mean().item()
# note: The loader shuffles, and augments: two passes see different images in another order. One pass, both networks.
# note: Common mistake: the mean of the batches' means, which lets each image of a small last batch count for more.

# %% 10.3
def my_kl(teacher, student):
    "Mean KL of the student's distribution from the teacher's, in nats; both are logits, (n, classes)"
    t, s = teacher.log_softmax(1), student.log_softmax(1)
    return (t.exp()*(t - s)).sum(1).mean()
# note: `F.kl_div(s, t, reduction='batchmean', log_target=True)` is the same; its first argument is the student.
# note: Common mistakes: `reduction='mean'` (divides by the classes, too), the two swapped, `softmax().log()`.

# %% 10.4
def far(teacher):
    "Logits that give the same answers, and a KL of 1 nat or more"
    best = torch.nn.functional.one_hot(teacher.argmax(1), teacher.shape[1]).float()
    sure = teacher.softmax(1).amax(1, keepdim=True) > .9
    return torch.where(sure, best/1000, 100*best)
# note: Almost flat beside a sure teacher, almost certain beside a timid one. Sharpening alone is not enough for a very sure
# note: teacher, flattening alone not for a timid one.
