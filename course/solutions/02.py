# %% 2.1
def bits(p):
    "Doubt of each row of probabilities, in bits"
    return -(p*p.clamp(1e-12).log2()).sum(1)
# note: Three bugs: summed over the images too; natural logarithm; 0 times log 0 is nan. The last one is the nasty one: it
# note: only shows when the teacher is so sure that a probability underflows to 0. `torch.special.entr(p).sum(1)/math.log(2)`
# note: is as good.

# %% 2.2
def kd_loss(student, teacher, y, T, alpha):
    "Hinton's loss: the labels, and T² times the divergence from the teacher's softened answers"
    log_s, log_t = (student/T).log_softmax(1), (teacher/T).log_softmax(1)
    soft = F.kl_div(log_s, log_t, log_target=True, reduction='batchmean')
    return alpha*T**2*soft + (1 - alpha)*F.cross_entropy(student, y)
# note: The check names eleven slips. The most common: no T²; `reduction='mean'`, which divides by the number of classes too;
# note: probabilities instead of log-probabilities as the first argument of `F.kl_div`. Cross-entropy to the soft targets is
# note: larger by the teacher's entropy and passes, since it trains alike.

# %% 2.3
guess = 2**2  # one factor T from z/T, one because the answers themselves come closer
# note: Most say two. The second factor is the surprise: at high temperature both answers are nearly uniform, so what they
# note: differ by shrinks as well. That is where the T² of the loss comes from.

# %% 2.4
def soft_gradient(student, teacher, T):
    "Gradient of T² times the mean divergence, in the student's logits"
    return T*((student/T).softmax(1) - (teacher/T).softmax(1))/len(student)
# note: The derivation is in the lesson's box. Two factors 1/T and one T² leave T; the second 1/T hides in the difference of
# note: the two softened answers.

# %% 2.5
def smoothing_teacher(eps, n):
    "Settings of `kd_loss` that make it label smoothing"
    return torch.zeros(n), 1., eps
# note: Any constant logits will do. At another T the weights would have to be chosen anew for each T, and the student's
# note: answer would be softened, which label smoothing does not do.

