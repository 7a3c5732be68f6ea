/* Check a softmax contrastive loss written in C against refcl's test vectors.
 *
 *     python -m refcl vectors --out vectors
 *     cc -std=c99 -O2 -o check_in_c examples/check_in_c.c -lm
 *     ./check_in_c vectors/contrastive.json answers.json
 *     python -m refcl verify answers.json
 *
 * In:  contrastive.json.
 * Out: each case of softmax_contrastive with reduction "mean", compared with its tolerance; exit status 0 where all
 *      agree. The second argument, if given, is where the answers go, for refcl to judge and to name mistakes in.
 *
 * The loss is in the first thirty lines; the rest reads JSON. Compile with -DFORGET_TEMPERATURE to see a mistake named.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* s is (n, m), row-major; column i is the positive of row i. Returns the loss, fills ds (n, m) and *dtemperature. */
static double softmax_contrastive(const double *s, int n, int m, double temperature, double *ds, double *dtemperature)
{
    double loss = 0.0;
#ifdef FORGET_TEMPERATURE
    temperature = 1.0;
#endif
    *dtemperature = 0.0;
    for (int i = 0; i < n; i++) {
        const double *row = s + (size_t)i * m;
        double *drow = ds + (size_t)i * m;
        /* Only differences to the positive enter: d_k = s_k - s_i, and gap = log sum_k exp(d_k / temperature). */
        double top = -INFINITY, total = 0.0, pushed = 0.0;
        for (int k = 0; k < m; k++)
            if (k != i && row[k] - row[i] > top) top = row[k] - row[i];
        for (int k = 0; k < m; k++)
            if (k != i) total += exp((row[k] - row[i] - top) / temperature);
        double gap = top / temperature + log(total);
        double q = exp(-fabs(gap)), slope = (gap >= 0 ? 1.0 : q) / (1.0 + q);
        loss += (fmax(gap, 0.0) + log1p(q)) / n;
        for (int k = 0; k < m; k++) {
            if (k == i) continue;
            drow[k] = slope * exp((row[k] - row[i] - top) / temperature) / total / temperature / n;
            pushed += drow[k];
            *dtemperature -= drow[k] * (row[k] - row[i]) / temperature;
        }
        drow[i] = -pushed;
    }
    return loss;
}

/* As much of JSON as the vectors use. */

typedef struct Node {
    enum { NUMBER, STRING, ARRAY, OBJECT, OTHER } kind;
    double number;
    char *text;          /* of a string */
    char *key;           /* of a member of an object */
    struct Node *first;  /* of an array or an object */
    struct Node *next;   /* beside it */
    int count;
} Node;

static const char *at; /* where the parser stands */

static void fail(const char *what)
{
    fprintf(stderr, "check_in_c: %s\n", what);
    exit(2);
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory) fail("out of memory");
    return memory;
}

static void skip_space(void)
{
    while (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r') at++;
}

static char *parse_text(void)
{
    const char *start = ++at; /* after the quote; escapes are kept as they are: no name has one */
    while (*at && *at != '"') at += (*at == '\\' && at[1]) ? 2 : 1;
    if (!*at) fail("not JSON: a string does not end");
    size_t length = (size_t)(at++ - start);
    char *text = allocate(length + 1);
    memcpy(text, start, length);
    return text;
}

static Node *parse(void)
{
    Node *node = allocate(sizeof(Node));
    skip_space();
    if (*at == '{' || *at == '[') {
        char close = *at == '{' ? '}' : ']';
        node->kind = *at == '{' ? OBJECT : ARRAY;
        Node **last = &node->first;
        at++;
        for (skip_space(); *at != close; skip_space()) {
            char *key = NULL;
            if (node->kind == OBJECT) {
                if (*at != '"') fail("not JSON: a name was expected");
                key = parse_text();
                skip_space();
                if (*at++ != ':') fail("not JSON: a colon was expected");
            }
            *last = parse();
            (*last)->key = key;
            last = &(*last)->next;
            node->count++;
            skip_space();
            if (*at == ',') at++;
            else if (*at != close) fail("not JSON: a comma was expected");
        }
        at++;
    } else if (*at == '"') {
        node->kind = STRING;
        node->text = parse_text();
    } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
        char *end;
        node->kind = NUMBER;
        node->number = strtod(at, &end);
        at = end;
    } else if (!strncmp(at, "true", 4) || !strncmp(at, "null", 4)) {
        node->kind = OTHER;
        at += 4;
    } else if (!strncmp(at, "false", 5)) {
        node->kind = OTHER;
        at += 5;
    } else {
        fail("not JSON: a value was expected");
    }
    return node;
}

static const Node *member(const Node *object, const char *key)
{
    for (const Node *node = object->first; node; node = node->next)
        if (node->key && !strcmp(node->key, key)) return node;
    fprintf(stderr, "check_in_c: there is no %s\n", key);
    exit(2);
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) fail("the vectors can't be opened");
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = allocate((size_t)size + 1);
    if (fread(text, 1, (size_t)size, file) != (size_t)size) fail("the vectors can't be read");
    fclose(file);
    return text;
}

/* Comparing. */

static double worst; /* largest error so far, in units of its tolerance */

static void compare(double got, double wanted, double tolerance)
{
    double distance = fabs(got - wanted) / tolerance;
    if (!(distance <= worst)) worst = isnan(distance) ? INFINITY : distance;
}

static void write_answer(FILE *out, int id, double loss, const double *ds, int n, int m, double dtemperature, int first)
{
    fprintf(out, "%s{\"tcId\": %d, \"value\": %.17g, \"gradients\": {\"temperature\": %.17g, \"s\": [", first ? "" : ",\n",
            id, loss, dtemperature);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", [" : "[", out);
        for (int k = 0; k < m; k++) fprintf(out, "%s%.17g", k ? ", " : "", ds[(size_t)i * m + k]);
        fputs("]", out);
    }
    fputs("]}}", out);
}

/* One case: compute, compare, and write the answer where one is asked for. Returns whether it agrees. */
static int run(const Node *test, FILE *out, int first)
{
    const Node *inputs = member(test, "inputs"), *s = member(inputs, "s");
    const Node *gradients = member(test, "gradients"), *tolerance = member(test, "tolerance");
    const Node *allowed = member(tolerance, "gradients");
    int n = s->count, m = s->first->count, i = 0;
    double *flat = allocate(sizeof(double) * (size_t)n * m), *ds = allocate(sizeof(double) * (size_t)n * m);
    for (const Node *row = s->first; row; row = row->next)
        for (const Node *entry = row->first; entry; entry = entry->next) flat[i++] = entry->number;

    double dtemperature;
    double loss = softmax_contrastive(flat, n, m, member(inputs, "temperature")->number, ds, &dtemperature);

    worst = 0.0;
    compare(loss, member(test, "value")->number, member(tolerance, "value")->number);
    compare(dtemperature, member(gradients, "temperature")->number, member(allowed, "temperature")->number);
    const Node *row = member(gradients, "s")->first, *row_allowed = member(allowed, "s")->first;
    for (i = 0; row; row = row->next, row_allowed = row_allowed->next)
        for (const Node *entry = row->first; entry; entry = entry->next)
            compare(ds[i++], entry->number, row_allowed->number);
    int id = (int)member(test, "tcId")->number;
    printf("%-6s %3d %-16s loss %.17g, worst error %.2g of its tolerance\n", worst <= 1.0 ? "ok" : "WRONG", id,
           member(test, "comment")->text, loss, worst);
    if (out) write_answer(out, id, loss, ds, n, m, dtemperature, first);
    free(flat);
    free(ds);
    return worst <= 1.0;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s contrastive.json [answers.json]\n", argv[0]);
        return 2;
    }
    at = read_file(argv[1]);
    const Node *vectors = parse();
    FILE *out = argc == 3 ? fopen(argv[2], "wb") : NULL;
    if (argc == 3 && !out) fail("the answers can't be written");
    if (out) fputs("{\"answers\": [\n", out);
    int compared = 0, agreed = 0;
    for (const Node *group = member(vectors, "testGroups")->first; group; group = group->next) {
        const Node *settings = member(group, "settings");
        if (strcmp(member(group, "loss")->text, "softmax_contrastive")) continue;
        if (strcmp(member(settings, "reduction")->text, "mean")) continue;
        for (const Node *test = member(group, "tests")->first; test; test = test->next, compared++)
            agreed += run(test, out, compared == 0);
    }
    if (out) {
        fputs("\n]}\n", out);
        if (fclose(out)) fail("the answers can't be written");
    }
    printf("%d of %d cases agree\n", agreed, compared);
    return compared && agreed == compared ? 0 : 1;
}
