# %% A1.1
guess = 0.
# note: The check measures -0.06 (30 images a class), the page -0.05 (100); right within 0.25. A class of clothes and a digit share a number and nothing else; 90 pairs
# note: dealt out at random scatter by about 0.1.

# %% A1.2
def draw(table, y):
    "For each label one of the tiny teacher's answers to that class"
    which = torch.randint(table.shape[1], y.shape)
    return table[y, which]
# note: `len(table)` is the number of classes. With ten classes and fifty answers nothing breaks, and four fifths of the
# note: answers are never heard. A bug without an error: only a look at what is drawn finds it.

# %% A1.3
def smoothing(a, n):
    "The eps for which label smoothing teaches what the rule teaches at temperature 1"
    return (1 - a)*n/(n - 1)
# note: 1 - eps + eps/n = a. Common mistake: eps = 1 - a, which forgets that the right class gets its share of eps back.

# %% A1.4
def judge(critic, written, spoken):
    "Low if what the teacher spoke scores high, and what the student wrote scores low"
    return F.softplus(critic(written.detach())).mean() + F.softplus(-critic(spoken)).mean()

def fool(critic, written):
    "Low if what the student wrote scores high"
    critic.requires_grad_(False)
    loss = F.softplus(-critic(written)).mean()
    critic.requires_grad_(True)
    return loss
# note: The minimax form, -softplus(score), has no slope where the student is caught; Goodfellow et al. (2014) name it and
# note: take this one. A copy of the critic in `fool` serves as well as freezing it.
