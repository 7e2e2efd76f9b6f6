# %% A2.1
def pairs(seqs, context):
    "Windows (b, n, context) and the characters (b, n) that come next"
    windows = seqs.unfold(1, context, 1)[:, :-1]
    return windows, seqs[:, context:]
# note: With [:, 1:] the last character of a window is the answer, and the loss falls to nothing.

# %% A2.2
guess = 1
# note: One term in the sum, 1 · log2(1/0.5). Forward it is infinite, which is what pushes a student to cover everything.

# %% A2.3
def reverse_kl(s, t):
    "KL(student || teacher) of logits (..., v), the mean over all places"
    s, t = s.log_softmax(-1), t.log_softmax(-1)
    return (s.exp()*(s - t)).sum(-1).mean()
# note: Common mistake: F.kl_div with its arguments in the forward order.

# %% A2.4
def accepted(proposal, scores, K):
    "Is each proposed token among the teacher's K best?"
    own = scores.gather(1, proposal[:, None])
    rank = (scores > own).sum(1)
    return rank < K
# note: `topk` works as well, but K = 0 then needs care. Counting those that are better gives both limits for free.
